"""The chatbot: what a shopper said in, cards and words out."""
