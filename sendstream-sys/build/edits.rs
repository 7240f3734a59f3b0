//! The changes we make to MsQuic's sources, in the order they are made.
//!
//! The build script applies this list to its copy of the sources, and the library publishes the same list, so that a
//! program can say what it really runs. An edit is anchored in the text it changes: sources in which the anchor is not
//! found exactly once are refused.

/// One change of one place in one file.
pub(crate) struct Edit {
    /// A short, stable name.
    pub(crate) name: &'static str,
    /// The file, relative to the root of MsQuic's sources.
    pub(crate) file: &'static str,
    /// What would go wrong without it.
    pub(crate) prevents: &'static str,
    /// The text to replace. It occurs exactly once in the file.
    pub(crate) anchor: &'static str,
    /// What stands there afterwards.
    pub(crate) replacement: &'static str,
}

/// Every edit, first to last.
pub(crate) const EDITS: &[Edit] = &[
    Edit {
        name: "empty-datagram-leak",
        file: "src/platform/datapath_epoll.c",
        prevents: "every UDP datagram without payload, from anyone, leaks its receive block (about 70 KB)",
        // The end of the loop over one batch. By then each packet that was cut from the block has counted itself in
        // `RefCount`, and none has been handed up yet: zero means that nobody will ever give the block back. The caller
        // has no pointer to it any more either.
        anchor: "        }\n    }\n\n    if (BytesTransferred == 0 || DatagramHead == NULL) {",
        replacement: "        }\n\n        if (IoBlock->RefCount == 0) {\n            CxPlatPoolFree(IoBlock);\n        }\n    }\n\n    \
                      if (BytesTransferred == 0 || DatagramHead == NULL) {",
    },
    Edit {
        name: "c-compiler-only",
        file: "CMakeLists.txt",
        prevents: "the build asks for a C++ compiler although the library is C",
        anchor: "\nproject(msquic)\n",
        replacement: "\nproject(msquic C)\n",
    },
    Edit {
        name: "c-standard-only",
        file: "src/inc/CMakeLists.txt",
        prevents: "the build asks for a C++ standard although the library is C",
        anchor: "target_compile_features(inc INTERFACE cxx_std_17)\n",
        replacement: "",
    },
];
