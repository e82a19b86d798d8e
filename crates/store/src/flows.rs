//! Placeholder until the flow engine's SQL lands.
