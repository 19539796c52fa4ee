"""The page of `vmss report`: one HTML document that needs nothing else, neither script nor network."""
