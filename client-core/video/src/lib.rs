//! Cameras, pictures, layers and their encoders.
