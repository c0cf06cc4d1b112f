"""Can a data set be trusted, and what is in it? ``check`` finds what is wrong, ``mend`` drops it, ``show`` draws."""
