//! JSON for people to read. Pure: text in, text out, so that the report needs one serializer and not two
//! (a second one makes the program 20 KB larger).

/// The same JSON with a line for each value, as `serde_json` prints it. `json` must be valid and without
/// white space between its parts.
#[must_use]
pub fn pretty(json: &str) -> String {
    let mut text = String::with_capacity(json.len() * 2);
    let (mut depth, mut in_string, mut escaped) = (0, false, false);
    let mut chars = json.chars().peekable();
    while let Some(c) = chars.next() {
        if in_string {
            in_string = c != '"' || escaped;
            escaped = c == '\\' && !escaped;
            text.push(c);
            continue;
        }
        let is_close = matches!(c, '}' | ']');
        if is_close && !text.ends_with(['{', '[']) {
            line(&mut text, depth - 1);
        }
        text.push(c);
        match c {
            '"' => in_string = true,
            ':' => text.push(' '),
            ',' => line(&mut text, depth),
            '{' | '[' => {
                depth += 1;
                if !matches!(chars.peek(), Some('}' | ']')) {
                    line(&mut text, depth);
                }
            }
            '}' | ']' => depth -= 1,
            _ => {}
        }
    }
    text
}

fn line(text: &mut String, depth: usize) {
    text.push('\n');
    text.extend(std::iter::repeat_n("  ", depth));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn agrees(value: &Value) -> bool {
        pretty(&value.to_string()) == serde_json::to_string_pretty(value).unwrap()
    }

    #[test]
    fn it_is_what_serde_json_prints() {
        for text in [
            "null",
            "[]",
            "{}",
            r#"{"a":[],"b":{},"c":[[1,2],[{"d":"e"}]]}"#,
            r#"["[{,:}]","\"","\\","a\\\",b"]"#,
            r#"{"load":[0.5,1.25,12.0],"osé":null}"#,
        ] {
            assert!(agrees(&serde_json::from_str(text).unwrap()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_texts_stay_as_they_are(keys in prop::collection::vec(".{0,8}", 0..4), texts in prop::collection::vec(".{0,12}", 0..4)) {
            let texts = Value::from(texts);
            let object: serde_json::Map<String, Value> = keys.into_iter().map(|key| (key, texts.clone())).collect();
            prop_assert!(agrees(&Value::Object(object)));
        }
    }
}
