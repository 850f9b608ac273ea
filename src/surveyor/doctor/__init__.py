"""`surveyor doctor`: what is wrong with data, model and campaign, before money is spent."""
