"""Makes a subject of a folder or a batch of photos: found, cropped, captioned, reported on."""
