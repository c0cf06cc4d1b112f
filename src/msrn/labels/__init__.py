"""The label set: names and their columns, label embeddings, and the label graph. (Nothing here needs torch.)"""
