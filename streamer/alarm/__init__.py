"""Alarms: from detections to tracks, from tracks to events."""
