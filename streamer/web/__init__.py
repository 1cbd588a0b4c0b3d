"""The web server: live page, MJPEG streams, status and metrics over HTTP."""
