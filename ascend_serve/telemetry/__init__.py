"""What a deployment tells about itself: events, report, metrics."""
