"""The world of people that FaceExpr Mini is trained on: photo-like heads by seed, their expressions, pictures and captions."""
