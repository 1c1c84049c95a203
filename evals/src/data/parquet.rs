//! Parquet, the format of most data sets on the hub.

use super::DataError;
use super::load::{Record, record_error};
use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use serde_json::{Map, Number, Value};
use std::panic::catch_unwind;

/// Bytes that a part of a file may have when it is decompressed.
const MOST_BYTES: i64 = 512 << 20;

/// The first `most` rows of a parquet file, each as a JSON object.
pub(super) fn rows(bytes: &[u8], name: &str, most: usize) -> Result<Vec<Record>, DataError> {
    // The reader takes some damage for an error of its own and panics.
    catch_unwind(|| read(bytes, name, most, MOST_BYTES))
        .unwrap_or_else(|_| Err(record_error(name, WHOLE, "not readable: it is damaged")))
}

const WHOLE: &str = "the parquet file";

fn read(bytes: &[u8], name: &str, most: usize, most_bytes: i64) -> Result<Vec<Record>, DataError> {
    let unreadable = |place: &str, e: ParquetError| {
        let reason = match e.to_string().rsplit_once("Disabled feature at compile time: ") {
            Some((_, codec)) => format!(
                "compressed by {codec}, which cannot be read here: save it with snappy, gzip or no \
                 compression"
            ),
            None => format!("not readable: {e}"),
        };
        record_error(name, place, reason)
    };
    let reader =
        SerializedFileReader::new(Bytes::copy_from_slice(bytes)).map_err(|e| unreadable(WHOLE, e))?;
    let said = reader.metadata().file_metadata().num_rows();
    // A row takes up space somewhere; a file that claims more rows than it could hold is damaged.
    if said < 0 || said as u64 > 64 * bytes.len() as u64 {
        return Err(record_error(
            name,
            WHOLE,
            format!("not readable: it claims to hold {said} rows"),
        ));
    }
    // a page is decompressed whole: a few bytes of the file may be gigabytes
    let mut before = 0;
    for (i, group) in reader.metadata().row_groups().iter().enumerate() {
        if before >= most {
            break;
        }
        before = before.saturating_add(usize::try_from(group.num_rows()).unwrap_or(0));
        let columns = group.columns().iter().map(|column| column.uncompressed_size());
        let bytes = columns
            .fold(0_i64, i64::saturating_add)
            .max(group.total_byte_size());
        if bytes > most_bytes {
            return Err(record_error(
                name,
                WHOLE,
                format!(
                    "not readable here: its row group {} has {} MiB decompressed, and at most {} are read",
                    i + 1,
                    bytes >> 20,
                    most_bytes >> 20
                ),
            ));
        }
    }
    let mut records = Vec::new();
    for (i, row) in reader
        .get_row_iter(None)
        .map_err(|e| unreadable(WHOLE, e))?
        .take(most)
        .enumerate()
    {
        let place = format!("row {}", i + 1);
        let row = row.map_err(|e| unreadable(&place, e))?;
        let record: Map<String, Value> = row
            .get_column_iter()
            .map(|(key, field)| (key.clone(), json(field)))
            .collect();
        records.push((place, record));
    }
    Ok(records)
}

/// A cell as JSON. What JSON has no word for becomes its text.
fn json(field: &Field) -> Value {
    let float = |x: f64| Number::from_f64(x).map_or(Value::Null, Value::Number);
    match field {
        Field::Null => Value::Null,
        Field::Bool(b) => Value::Bool(*b),
        Field::Byte(n) => Value::from(*n),
        Field::Short(n) => Value::from(*n),
        Field::Int(n) => Value::from(*n),
        Field::Long(n) => Value::from(*n),
        Field::UByte(n) => Value::from(*n),
        Field::UShort(n) => Value::from(*n),
        Field::UInt(n) => Value::from(*n),
        Field::ULong(n) => Value::from(*n),
        // An f32 is meant as it prints.
        Field::Float(x) => float(x.to_string().parse().unwrap_or(f64::NAN)),
        Field::Double(x) => float(*x),
        Field::Str(s) => Value::String(s.clone()),
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => Value::String(text.to_owned()),
            Err(_) => Value::Null,
        },
        Field::Group(row) => Value::Object(
            row.get_column_iter()
                .map(|(key, field)| (key.clone(), json(field)))
                .collect(),
        ),
        Field::ListInternal(list) => Value::Array(list.elements().iter().map(json).collect()),
        Field::MapInternal(map) => {
            let key = |field: &Field| match field {
                Field::Str(s) => s.clone(),
                other => other.to_string(),
            };
            Value::Object(map.entries().iter().map(|(k, v)| (key(k), json(v))).collect())
        }
        other => Value::String(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parquet::basic::Compression;
    use parquet::data_type::{ByteArray, ByteArrayType};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;
    use std::sync::Arc;

    /// A row group for each question, which repeats its word so often.
    fn file(questions: &[(&str, usize)]) -> Vec<u8> {
        let schema = Arc::new(parse_message_type("message m { required binary question (UTF8); }").unwrap());
        let how = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_dictionary_enabled(false)
            .build();
        let mut bytes = Vec::new();
        let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::new(how)).unwrap();
        for (word, times) in questions {
            let mut group = writer.next_row_group().unwrap();
            let mut column = group.next_column().unwrap().unwrap();
            let text = [ByteArray::from(word.repeat(*times).into_bytes())];
            column
                .typed::<ByteArrayType>()
                .write_batch(&text, None, None)
                .unwrap();
            column.close().unwrap();
            group.close().unwrap();
        }
        writer.close().unwrap();
        bytes
    }

    #[test]
    fn what_decompresses_to_too_much_is_refused_if_it_is_asked_for() {
        let bytes = file(&[("short", 1), ("long ", 1 << 20)]);
        assert!(bytes.len() < 1 << 19, "{} bytes in the file", bytes.len());
        let read = |most| read(&bytes, "set.parquet", most, 1 << 20);
        let first = read(1).unwrap();
        assert_eq!(first[0].1["question"], "short");
        let error = read(2).unwrap_err().to_string();
        assert!(
            error.contains("row group 2 has 5 MiB decompressed, and at most 1 are read"),
            "{error}"
        );
        assert_eq!(rows(&bytes, "set.parquet", 2).unwrap().len(), 2);
    }
}
