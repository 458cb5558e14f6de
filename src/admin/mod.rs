//! Floor 2: the admin socket and listener.
