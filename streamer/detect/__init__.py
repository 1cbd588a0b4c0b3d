"""Detection: from frames to detections, one detector per camera."""
