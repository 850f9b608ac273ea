"""The commands of the lab; importing them is quick."""
