"""The world of FaceExpr Mini: procedural faces, their expressions, pictures and captions."""
