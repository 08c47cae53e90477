"""The production controller and engine on a virtual clock, with toy devices and faults."""
