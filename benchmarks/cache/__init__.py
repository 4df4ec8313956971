"""The cache of images: traces of requests, ours and published policies, and what the judge says of the images."""
