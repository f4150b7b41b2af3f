#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod error;
mod mix;
mod place;
mod placement;

pub use error::UnknownMix;
pub use mix::Mix;
pub use place::{Place, Role};
pub use placement::{Facts, fitting_type};
