"""What a trained classifier is on disk: metadata, weights and label inputs, written, read and verified.

A bundle is a folder of three files. ``bundle.json`` holds labels, preprocessing, thresholds, settings, splits and the
digests of the other two; ``model.safetensors`` holds the weights; ``label_inputs.safetensors`` holds the label
embeddings and the label graph, under these names whatever the head calls them.
"""
