//! config.json and safetensors to an architecture, generic over the Backend.
