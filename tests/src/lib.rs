//! Cross-component and machine tests, and their kit.
