"""Devices and processes, and how programs are compiled and timed."""
