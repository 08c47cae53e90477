"""Random runs of the production controller on toy devices, with faults: public test tools."""
