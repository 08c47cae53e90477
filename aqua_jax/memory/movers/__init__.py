"""Movers: one protocol, `engine.protocols.Mover`, two implementations here and decorators."""
