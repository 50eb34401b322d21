"""Layouts, transfers, communicators and the array itself: everything below the operations."""
