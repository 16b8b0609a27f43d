"""Every optimization method, by name. A new method is one file, one row here, rows in the shared test battery."""

METHODS: dict[str, str] = {
    # base models
    "smollm2": "variants.methods.smollm2:SmolLM2",
    "hf_dir": "variants.methods.hf_dir:HfDir",
    # quantization
    "bf16": "variants.methods.cast:Bf16",
    "fp16": "variants.methods.cast:Fp16",
    "int8_weight_only": "variants.methods.int8_weight_only:Int8WeightOnly",
    "int4_weight_only": "variants.methods.int4_weight_only:Int4WeightOnly",
    "int8_dynamic": "variants.methods.int8_dynamic:Int8Dynamic",
    "int4_per_row": "variants.methods.int4:Int4PerRow",
    "int4_group": "variants.methods.int4:Int4Group",
    "gptq": "variants.methods.gptq:Gptq",
    "gguf": "variants.methods.gguf_export:GgufExport",
    "onnx": "variants.methods.onnx_export:OnnxExport",
    # the same numbers, faster
    "packed": "variants.methods.packed:Packed",
    "early_exit": "variants.methods.early_exit:EarlyExit",
    # pruning
    "head_drop": "variants.methods.head_drop:HeadDrop",
    "wanda": "variants.methods.wanda:Wanda",
    "mlp_width": "variants.methods.mlp_width:MlpWidth",
    "layer_drop": "variants.methods.layer_drop:LayerDrop",
    "magnitude_prune": "variants.methods.magnitude_prune:MagnitudePrune",
    # low rank, sharing
    "low_rank_factors": "variants.methods.low_rank_factors:LowRankFactors",
    "huffman": "variants.methods.huffman:Huffman",
    "low_rank": "variants.methods.low_rank:LowRank",
    "kmeans_sharing": "variants.methods.kmeans_sharing:KMeansSharing",
    # training
    "lora_merge": "variants.methods.lora_merge:LoraMerge",
    "lora": "variants.methods.lora:Lora",
    "lora_adapter": "variants.methods.lora:LoraAdapter",
    "finetune": "variants.methods.finetune:Finetune",
    "recover": "variants.methods.finetune:Recover",
    "distill": "variants.methods.distill:Distill",
    # prompt and retrieval
    "prompt_template": "variants.methods.prompt_template:PromptTemplate",
    "output_constraint": "variants.methods.output_constraint:OutputConstraint",
    "rag": "variants.methods.rag:Rag",
    # serving and routing
    "response_cache": "variants.methods.response_cache:ResponseCache",
    "semantic_cache": "variants.methods.response_cache:SemanticCache",
    "speculative": "variants.methods.speculative:Speculative",
    "cascade": "variants.methods.cascade:Cascade",
    "router": "variants.methods.cascade:Router",
}
