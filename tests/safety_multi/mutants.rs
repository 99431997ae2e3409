//! One rule left out at a time.

use crate::exhaustive::find;
use crate::machine::{Part, Without};
use crate::scope::{Cluster, members};
