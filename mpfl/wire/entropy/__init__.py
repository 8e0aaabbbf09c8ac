"""Entropy coding: interleaved rANS over symbols with integer frequencies."""
