//! Addresses as a book names them: `host:port` or `ip:port`, an IPv6 address in brackets.
//!
//! Knows nothing of: whether anybody answers there, or the host has a name server's word for it.

use std::net::SocketAddr;

/// The longest name of a host that the domain name system has.
const HOST_BYTES_MAX: usize = 253;

/// Whether `address` could be called.
pub(crate) fn is_well_formed(address: &str) -> bool {
    if let Ok(address) = address.parse::<SocketAddr>() {
        return address.port() != 0;
    }
    let Some((host, port)) = address.rsplit_once(':') else { return false };
    let spelled = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let named = (1..=HOST_BYTES_MAX).contains(&host.len()) && host.bytes().all(spelled);
    named && port.parse::<u16>().is_ok_and(|port| port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_both_kinds_of_ip_are_addresses_with_a_port_that_can_be_called() {
        for address in ["10.0.0.2:7000", "[::1]:7000", "db-2.internal:1", "my_host:65535"] {
            assert!(is_well_formed(address), "{address:?}");
        }
        let long = format!("{}:7000", "a".repeat(HOST_BYTES_MAX + 1));
        let malformed = [
            "",
            ":",
            ":7000",
            "host",
            "host:",
            "host:0",
            "10.0.0.2:0",
            "host:65536",
            "host:port",
            "::1:7000",
            "a host:7000",
            "http://host:80",
            "host:7000/path",
            "host\0:7000",
            &long,
        ];
        for address in malformed {
            assert!(!is_well_formed(address), "{address:?}");
        }
    }
}
