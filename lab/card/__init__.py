"""What training and drawing take of a card: simulated on a pretended one, and tried at SDXL's full size."""
