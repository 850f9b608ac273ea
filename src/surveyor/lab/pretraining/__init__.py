"""Generic molecules → labelled frames → a pretrained MACE potential with its model card."""
