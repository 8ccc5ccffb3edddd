"""Serving: the Ray Serve application, its replica, and offline generation on the same engine."""
