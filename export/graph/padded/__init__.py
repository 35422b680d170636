"""The padded dialect: ``input_ids`` and ``attention_mask`` as other exporters name them, in operators of opset 17."""
