"""A method on people: pictures drawn in several ways from the same noise, measured, and told in tables and one page."""
