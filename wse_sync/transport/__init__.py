"""The edges: a WebSocket as something to read messages from and to send frames to."""
