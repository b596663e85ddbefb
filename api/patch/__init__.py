"""The three patch formats that clients send: JSON patch, merge patch and strategic merge patch. None changes its input."""
