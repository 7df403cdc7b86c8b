{"v":1,"kind":"ack","nonce":"a0a1a2a3a4a5a6a7a8a9aaabacadaeaf","at":1764000000200,"code":"stored","mac":"522af64035adba2b4121a659aa510e0cd49837c7519515585ac8c6cbb6984e07"}
{"top":7}