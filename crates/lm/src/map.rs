//! A file as memory: the one memory map of the house.
