"""Traces of lrf's runs by OpenTelemetry."""
