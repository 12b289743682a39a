"""ImageReward: a BLIP with a head, trained on people's rankings of pictures for a prompt."""
