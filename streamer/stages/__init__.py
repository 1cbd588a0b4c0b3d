"""Stages: functions from frames to frames."""
