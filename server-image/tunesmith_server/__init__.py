"""Serve one exported model over HTTP: ONNX Runtime below, OpenAI's API above, no torch anywhere.

`python -m tunesmith_server MODEL_DIR` is the public face; `tunesmith_server.app.create_app` is the same server as an
ASGI application and `tunesmith_server.slot_engine.SlotEngine` the engine alone.
"""
