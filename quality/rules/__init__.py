"""The repairs, one file each: pure functions over the working frame of `quality.frame`."""
