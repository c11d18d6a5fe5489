"""What may be shown: attributes, filter expressions and the shop's rules become allowed sets."""
