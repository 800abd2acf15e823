"""Labelled synthetic faces: people described or learned, drawn, measured, split by person, told in a card, laid out for `datasets`."""
