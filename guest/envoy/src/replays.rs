//! Signed requests that are accepted once, across the workers of one proxy.
