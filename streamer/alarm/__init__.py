"""Alarms: from masks to regions, from regions over time to events and their evidence."""
