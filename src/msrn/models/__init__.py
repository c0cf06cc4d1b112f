"""Networks: a backbone gives feature maps, a head turns them into logits."""
