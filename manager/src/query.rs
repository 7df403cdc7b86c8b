//! The query part of a URL. Pure.

/// The parameters of a query, decoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

/// A parameter that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadParameter {
    /// Its name.
    pub name: String,
    /// What is allowed.
    pub allowed: &'static str,
}

impl Query {
    /// The parameters of `text`, the part after `?`; they must be among `known`.
    ///
    /// # Errors
    /// Names one that is not, or that does not decode.
    pub fn parse(text: Option<&str>, known: &[&str]) -> Result<Self, BadParameter> {
        let mut parameters = Vec::new();
        for part in text.unwrap_or_default().split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let bad = |allowed| BadParameter { name: name.to_owned(), allowed };
            if !known.contains(&name) {
                return Err(bad("a parameter that this path knows"));
            }
            let value = decode(value).ok_or_else(|| bad("percent-encoded UTF-8"))?;
            parameters.push((name.to_owned(), value));
        }
        Ok(Self(parameters))
    }

    /// The value of a parameter.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, value)| known == name && !value.is_empty());
        found.map(|(_, value)| value.as_str())
    }

    /// The value of a parameter as `read` understands it.
    ///
    /// # Errors
    /// When `read` refuses it.
    pub fn read<T>(
        &self,
        name: &str,
        allowed: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, BadParameter> {
        let Some(value) = self.get(name) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| BadParameter { name: name.to_owned(), allowed })
    }
}

/// What a time parameter may be.
pub const TIME: &str = "milliseconds since 1970, or a time ago such as -90s, -10m, -2h, -1d";

/// A moment: milliseconds since the Unix epoch, or so long before `now`.
#[must_use]
pub fn time(text: &str, now: i64) -> Option<i64> {
    let Some(ago) = text.strip_prefix('-') else { return text.parse().ok() };
    let unit = match ago.chars().next_back()? {
        's' => 1000,
        'm' => 60_000,
        'h' => 3_600_000,
        'd' => 86_400_000,
        _ => return None,
    };
    let count: u32 = ago[..ago.len() - 1].parse().ok()?;
    Some(now.saturating_sub(i64::from(count) * unit))
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? << 4 | digit()?).ok()?
            }
            b'+' => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_unknown_ones_named() {
        let query =
            Query::parse(Some("edge=wireguard%3Aab%2Fwg0&limit=5&agent="), &["edge", "limit", "agent"]);
        let query = query.unwrap();
        assert_eq!(query.get("edge"), Some("wireguard:ab/wg0"));
        assert_eq!(query.read("limit", "a number", |text| text.parse().ok()), Ok(Some(5)));
        assert_eq!(query.get("agent"), None);
        assert_eq!(Query::parse(Some("lmit=5"), &["limit"]).unwrap_err().name, "lmit");
        for bad in ["limit=%", "limit=%2", "limit=%zz", "limit=%ff", "limit=%+1"] {
            assert!(Query::parse(Some(bad), &["limit"]).is_err(), "{bad}");
        }
    }

    #[test]
    fn moments_are_absolute_or_ago() {
        assert_eq!(time("1764000000000", 5), Some(1_764_000_000_000));
        assert_eq!(time("-90s", 100_000), Some(10_000));
        assert_eq!(time("-2h", 8_000_000), Some(800_000));
        for bad in ["-", "-5", "-xs", "tomorrow", "-5w", "-é"] {
            assert_eq!(time(bad, 0), None, "{bad}");
        }
    }
}
