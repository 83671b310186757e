"""Image files as upright RGB arrays, and masks, boxes and points drawn over them."""
