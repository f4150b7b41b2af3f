//! A file as a list of labelled fields, so that a test can break exactly one of them.
//!
//! It is built by hand and shares no code with the writer.

/// The fields of a file, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct RawFile {
    pub(crate) fields: Vec<Field>,
}

#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) label: String,
    pub(crate) bytes: Vec<u8>,
}

impl RawFile {
    /// A small valid file: every kind of value, three tensors of different types.
    pub(crate) fn sample() -> Self {
        let mut file = Self::default();
        file.header(3, 8);
        file.entry("a.name", 8);
        file.string("a.name value", "härte");
        file.entry("general.alignment", 4);
        file.push("alignment", 32_u32.to_le_bytes());
        file.entry("a.bool", 7);
        file.push("a.bool value", [1]);
        file.entry("a.wide", 12);
        file.push("a.wide value", 0.5_f64.to_le_bytes());
        file.entry("a.ints", 9);
        file.array("a.ints", 5, 3);
        (1_i32..=3).for_each(|i| file.push("a.ints element", i.to_le_bytes()));
        file.entry("a.text", 9);
        file.array("a.text", 8, 2);
        file.string("a.text element 0", "x");
        file.string("a.text element 1", "yz");
        file.entry("a.flag", 9);
        file.array("a.flag", 7, 2);
        file.push("a.flag element 0", [0]);
        file.push("a.flag element 1", [1]);
        file.entry("a.deep", 9);
        file.array("a.deep", 9, 2);
        file.array("a.deep 0", 2, 2);
        file.push("a.deep 0 elements", [1, 0, 2, 0]);
        file.array("a.deep 1", 8, 1);
        file.string("a.deep 1 element", "in");

        file.tensor("first", &[2, 3], 0, 0);
        file.tensor("other", &[32, 2], 8, 32);
        file.tensor("third", &[4], 1, 128);
        file.pad(32);
        file.push("first data", [1; 24]);
        file.pad(32);
        file.push("other data", [2; 68]);
        file.pad(32);
        file.push("third data", [3; 8]);
        file
    }

    pub(crate) fn header(&mut self, n_tensors: u64, n_entries: u64) {
        self.push("magic", b"GGUF");
        self.push("version", 3_u32.to_le_bytes());
        self.push("n_tensors", n_tensors.to_le_bytes());
        self.push("n_entries", n_entries.to_le_bytes());
    }

    pub(crate) fn entry(&mut self, key: &str, ty: u32) {
        self.string(&format!("{key} key"), key);
        self.push(&format!("{key} type"), ty.to_le_bytes());
    }

    pub(crate) fn array(&mut self, label: &str, element_type: u32, len: u64) {
        self.push(&format!("{label} element type"), element_type.to_le_bytes());
        self.push(&format!("{label} length"), len.to_le_bytes());
    }

    pub(crate) fn tensor(&mut self, name: &str, ne: &[u64], ty: u32, offset: u64) {
        self.string(&format!("{name} name"), name);
        self.push(&format!("{name} n_dims"), (ne.len() as u32).to_le_bytes());
        for (i, n) in ne.iter().enumerate() {
            self.push(&format!("{name} ne{i}"), n.to_le_bytes());
        }
        self.push(&format!("{name} type"), ty.to_le_bytes());
        self.push(&format!("{name} offset"), offset.to_le_bytes());
    }

    pub(crate) fn string(&mut self, label: &str, text: &str) {
        self.push(
            &format!("{label} length"),
            (text.len() as u64).to_le_bytes(),
        );
        self.push(label, text);
    }

    pub(crate) fn push(&mut self, label: &str, bytes: impl AsRef<[u8]>) {
        self.fields.push(Field {
            label: label.to_owned(),
            bytes: bytes.as_ref().to_vec(),
        });
    }

    pub(crate) fn pad(&mut self, alignment: usize) {
        let len = self.bytes().len();
        self.push("padding", vec![0; len.next_multiple_of(alignment) - len]);
    }

    /// The same file with one field replaced.
    pub(crate) fn with(mut self, label: &str, bytes: impl AsRef<[u8]>) -> Self {
        let index = self.index(label);
        self.fields[index].bytes = bytes.as_ref().to_vec();
        self
    }

    /// Where a field starts.
    pub(crate) fn offset(&self, label: &str) -> u64 {
        let before = &self.fields[..self.index(label)];
        before.iter().map(|field| field.bytes.len() as u64).sum()
    }

    /// The file up to the middle of a field.
    pub(crate) fn cut_inside(&self, label: &str) -> Vec<u8> {
        let mut bytes = self.bytes();
        bytes.truncate(self.offset(label) as usize + 1);
        bytes
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.fields
            .iter()
            .flat_map(|field| field.bytes.iter().copied())
            .collect()
    }

    fn index(&self, label: &str) -> usize {
        let found = self.fields.iter().position(|field| field.label == label);
        found.unwrap_or_else(|| panic!("no field `{label}`"))
    }
}
