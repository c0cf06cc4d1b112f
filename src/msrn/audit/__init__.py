"""Checks of a labelled data set, and their fixes."""
