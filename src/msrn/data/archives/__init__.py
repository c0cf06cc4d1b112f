"""Images inside archives: tar shards, parquet files and Arrow files.

``shards/000.tar::dog/1.jpg`` names a member of an uncompressed tar file, and ``train.parquet::image/17`` row 17 of the
column ``image`` of a parquet or Arrow file.
"""
