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
        name: "exclusive-port",
        file: "src/platform/datapath_epoll.c",
        prevents: "a server on port 0 is given the port of another server of the same user, and takes half of its packets; \
                   and a server on a port in use is not refused",
        // Linux lets sockets with SO_REUSEPORT share a port even where it chooses the port itself. So the first of a
        // server's sockets, one for each processor, binds without it. The next edit sets it afterwards, for the others.
        anchor: "        if ((Config->Flags & CXPLAT_SOCKET_FLAG_SHARE || Config->RemoteAddress == NULL) &&\n            \
                 SocketContext->Binding->Datapath->PartitionCount > 1) {",
        replacement: "        if ((Config->RemoteAddress == NULL ?\n                \
                      SocketContext != Binding->SocketContexts :\n                \
                      (Config->Flags & CXPLAT_SOCKET_FLAG_SHARE)) &&\n            \
                      SocketContext->Binding->Datapath->PartitionCount > 1) {",
    },
    Edit {
        name: "exclusive-port-shared-after",
        file: "src/platform/datapath_epoll.c",
        prevents: "a server has one socket for all processors, since exclusive-port",
        anchor: "            \"bind failed\");\n        goto Exit;\n    }\n\n    QUIC_ADDR_STR LocalAddressStr;",
        replacement: "            \"bind failed\");\n        goto Exit;\n    }\n\n    \
                      if (SocketType == CXPLAT_SOCKET_UDP && Config->RemoteAddress == NULL &&\n        \
                      SocketContext == Binding->SocketContexts &&\n        \
                      SocketContext->Binding->Datapath->PartitionCount > 1) {\n        \
                      Option = TRUE;\n        \
                      if (setsockopt(\n                SocketContext->SocketFd, SOL_SOCKET, SO_REUSEPORT,\n                \
                      (const void*)&Option, sizeof(Option)) == SOCKET_ERROR) {\n            \
                      Status = errno;\n            goto Exit;\n        }\n    }\n\n    \
                      QUIC_ADDR_STR LocalAddressStr;",
    },
    Edit {
        name: "receive-not-forgotten",
        file: "src/core/stream_recv.c",
        prevents: "with several receives outstanding, the last bytes of a stream are now and then never indicated",
        // A completion that was queued may run after a flush has taken its bytes along. It then finds nothing pending, and
        // used to conclude that nothing is left to deliver, though a frame may have arrived meanwhile.
        anchor: "    if (Stream->RecvPendingLength == 0 ||\n        \
                 QuicRecvBufferDrain(&Stream->RecvBuffer, BufferLength)) {",
        replacement: "    if (Stream->RecvPendingLength == 0 ?\n        \
                      !QuicRecvBufferHasUnreadData(&Stream->RecvBuffer) :\n        \
                      QuicRecvBufferDrain(&Stream->RecvBuffer, BufferLength)) {",
    },
    Edit {
        name: "fin-behind-lent-data",
        file: "src/core/stream_recv.c",
        prevents: "with several receives outstanding, a FIN in a frame of its own is not told before every byte is given back",
        // FIN counts as deliverable only once everything before it was *completed*. With multi-receive it is enough that
        // everything was *indicated*; in the other modes what is pending holds deliveries back further down anyway.
        anchor: "        Stream->RecvMaxLength = EndOffset;\n        \
                 if (Stream->RecvBuffer.BaseOffset == Stream->RecvMaxLength) {",
        replacement: "        Stream->RecvMaxLength = EndOffset;\n        \
                      if (Stream->RecvBuffer.BaseOffset + Stream->RecvBuffer.ReadPendingLength == Stream->RecvMaxLength) {",
    },
    Edit {
        name: "close-reason-stored-first",
        file: "src/core/connection.c",
        prevents: "an application that is told of the peer's close cannot ask for the reason phrase that came with it",
        // MsQuic indicates SHUTDOWN_INITIATED before it stores the phrase. This takes the indication out, the next edit
        // puts it back behind.
        anchor: "        if (Flags & QUIC_CLOSE_SEND_NOTIFICATION &&\n            Connection->State.ExternalOwner) {\n            \
                 QuicConnIndicateShutdownBegin(Connection);\n        }\n\n        if (Connection->CloseReasonPhrase != NULL) {",
        replacement: "        if (Connection->CloseReasonPhrase != NULL) {",
    },
    Edit {
        name: "close-event-after-reason",
        file: "src/core/connection.c",
        prevents: "the end of a connection is not indicated at all, since close-reason-stored-first",
        anchor: "        if (Connection->State.Started) {\n            QuicConnLogStatistics(Connection);\n        }",
        replacement: "        if (Flags & QUIC_CLOSE_SEND_NOTIFICATION &&\n            Connection->State.ExternalOwner) {\n            \
                      QuicConnIndicateShutdownBegin(Connection);\n        }\n\n        \
                      if (Connection->State.Started) {\n            QuicConnLogStatistics(Connection);\n        }",
    },
    Edit {
        name: "datagram-limit-counts-the-frame",
        file: "src/core/datagram.c",
        prevents: "a datagram that fills a peer's max_datagram_frame_size makes a frame of up to three bytes more, which ends the connection",
        // RFC 9221 section 3 counts the frame's type and length as well, and makes 0 stand for no support; MsQuic takes the
        // parameter for the payload's limit.
        anchor: "        if (!(Connection->PeerTransportParams.Flags & QUIC_TP_FLAG_MAX_DATAGRAM_FRAME_SIZE)) {\n            \
                 SendEnabled = FALSE;\n            NewMaxSendLength = 0;\n        } else {\n            \
                 if (Connection->PeerTransportParams.MaxDatagramFrameSize < UINT16_MAX) {\n                \
                 NewMaxSendLength = (uint16_t)Connection->PeerTransportParams.MaxDatagramFrameSize;\n",
        replacement: "        if (!(Connection->PeerTransportParams.Flags & QUIC_TP_FLAG_MAX_DATAGRAM_FRAME_SIZE) ||\n            \
                      Connection->PeerTransportParams.MaxDatagramFrameSize < DATAGRAM_FRAME_HEADER_LENGTH) {\n            \
                      SendEnabled = FALSE;\n            NewMaxSendLength = 0;\n        } else {\n            \
                      if (Connection->PeerTransportParams.MaxDatagramFrameSize < UINT16_MAX) {\n                \
                      NewMaxSendLength =\n                    \
                      (uint16_t)(Connection->PeerTransportParams.MaxDatagramFrameSize - DATAGRAM_FRAME_HEADER_LENGTH);\n",
    },
    Edit {
        name: "datagram-limit-told-to-servers",
        file: "src/core/crypto.c",
        prevents: "a server is not told that datagrams can be sent before the path's MTU changes, which it may never do",
        // A client's parameters come with its first packet, before the listener has accepted, and MsQuic keeps what it
        // derives from them to itself as long as nobody owns the connection.
        anchor: "        QUIC_CONNECTION_EVENT Event;\n        Event.Type = QUIC_CONNECTION_EVENT_CONNECTED;\n",
        replacement: "        QUIC_CONNECTION_EVENT Event;\n        \
                      if (QuicConnIsServer(Connection) && Connection->Datagram.SendEnabled) {\n            \
                      Event.Type = QUIC_CONNECTION_EVENT_DATAGRAM_STATE_CHANGED;\n            \
                      Event.DATAGRAM_STATE_CHANGED.SendEnabled = TRUE;\n            \
                      Event.DATAGRAM_STATE_CHANGED.MaxSendLength = Connection->Datagram.MaxSendLength;\n            \
                      (void)QuicConnIndicateEvent(Connection, &Event);\n        }\n        \
                      Event.Type = QUIC_CONNECTION_EVENT_CONNECTED;\n",
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
